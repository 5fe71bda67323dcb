"""The report of a campaign: one HTML file that loads nothing from elsewhere."""
