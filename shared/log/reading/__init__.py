"""Ways of reading a stream: at once, by a shared consumer, as an ordered tail."""
