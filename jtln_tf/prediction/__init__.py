"""What a finished run is used for: image files -> classes, and its accuracy on new labelled images."""
