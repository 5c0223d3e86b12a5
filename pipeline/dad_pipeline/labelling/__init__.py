"""Another teacher's logits for a finished set, as sidecar shards."""
