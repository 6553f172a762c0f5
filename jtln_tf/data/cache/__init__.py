"""What is kept on the disk between runs."""
