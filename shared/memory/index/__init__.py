"""Where vectors lie: embedded or on a server, and what makes them."""
