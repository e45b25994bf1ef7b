# Called with --input data.csv by examples/executors.yaml.
import os
import sys

print("job B at log level", os.environ["LOGLEVEL"], "called with:", *sys.argv[1:])
