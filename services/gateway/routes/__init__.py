"""The routes, by the path they are under: thin, they name the command or the view."""
