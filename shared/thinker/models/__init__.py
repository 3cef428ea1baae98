"""Thinking by a model behind an OpenAI-compatible endpoint."""
