"""What people and Prometheus see of a real server under the demo's kind of traffic."""
