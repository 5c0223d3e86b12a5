"""Published weights brought to a folder: by name, resumable, verified, and never half there."""
