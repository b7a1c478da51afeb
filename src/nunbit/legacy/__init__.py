"""The explicit import of state dicts of `torch.save`; nothing else reads a pickle of torch."""
