"""The names of the files in a work directory."""

CLASSES_FILE = "classes.txt"  # in a work directory, the names of the classes
RESULT_FILE = "result.json"  # in a work directory, once its run is finished: what it cost and reached
