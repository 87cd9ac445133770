"""What the door `flows.engine` needs from Prefect: its server, its task runners, its pages."""
