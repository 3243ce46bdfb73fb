"""How messages travel: envelope, batches, delivery, progress, publication."""
