"""Training: data, losses, schedules, checkpoints and the trainer."""
