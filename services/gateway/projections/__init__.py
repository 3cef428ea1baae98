"""What the gateway knows: folds of the log into the views it answers from, and the feed that keeps them at the present."""
