"""Search: which configurations of a composition are worth proposing."""
