"""What one looks at after a run: figures and one self-contained page."""
