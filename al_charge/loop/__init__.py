"""What a round is, what comes next, and when a campaign is done."""
