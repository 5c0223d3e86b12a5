"""Training a quantizer for one's own images."""
