"""The loop and its parts: optimizer, schedule, loss, state, step."""
