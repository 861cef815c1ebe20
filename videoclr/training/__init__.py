"""What the training programs in `pipelines/` share: degradation, data, losses, and one loop."""
