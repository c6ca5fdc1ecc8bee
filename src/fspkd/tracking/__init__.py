"""Copies of results in MLflow. What is on disk is the truth, and any of it can be sent, or sent again, at any time."""

import os

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a cluster often has no internet access
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what a server does not take now is sent later
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it prints the address, with a password, for each run that ends
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)  # before MLflow is imported
