"""Fine-tuning: which way suits the pictures, the machine and the time."""
