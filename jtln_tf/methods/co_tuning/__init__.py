"""Co-tuning: the method, and how the classes of both domains are related."""
