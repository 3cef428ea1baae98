"""The local mesh: starts every part as a real process, restarts what dies, stops all of it. It imports no service code."""
