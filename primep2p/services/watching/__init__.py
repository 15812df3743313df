"""What the owner is told: events as they come, and answers to questions about what was."""
