"""Images, what they go through before a net sees them, and what a net saw in them: what needs no training."""
