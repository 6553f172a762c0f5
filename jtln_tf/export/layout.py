"""What an export holds. Imports no TensorFlow."""

KIND = "export"
CLASSES_FILE = "classes.json"
# Names of everything that is written directly into the folder.
OWN_NAMES = (CLASSES_FILE, "assets", "fingerprint.pb", "saved_model.pb", "variables")
