"""What is wrong with a set of pictures, found before a training costs a day."""
