"""What users see of a campaign: plots, tables and documents."""
