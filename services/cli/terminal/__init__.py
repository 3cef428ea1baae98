"""What every command needs: whom to ask, and how to show what came of it."""
