"""What rules can be asked: questions told from other words, and their answers from counts, findings and memories."""
