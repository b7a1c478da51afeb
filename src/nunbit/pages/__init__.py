"""What all pages share: the environment of their templates, the frame and the style."""
