"""What a network does with a picture, and what it is made of: pictures, tables and one page."""
