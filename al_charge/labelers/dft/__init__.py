"""What engines of density-functional theory share: settings, steering, audit, and their process."""
