"""Thinking: the port, the perception every thinker shares, the rules and the model behind it."""
