# Called with --verbose by examples/executors.yaml.
echo "job A, due at $FIRELINK_SCHEDULED_AT, called with: $*"
