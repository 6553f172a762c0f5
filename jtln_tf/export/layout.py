"""What an export holds. Imports no TensorFlow."""

KIND = "export"
# Beside the folder while it is written.
UNFINISHED_KIND = "unfinished export"
CLASSES_FILE = "classes.json"
# Paths of everything that is written into the folder, or shell patterns of them.
OWN_NAMES = (CLASSES_FILE, "assets", "fingerprint.pb", "saved_model.pb", "variables", "variables/variables.*")
UNFINISHED_NAMES = (KIND, f"{KIND}/*")
