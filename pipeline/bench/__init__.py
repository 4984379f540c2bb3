"""The benchmark of a topology, `launcher.py bench`: plays a numbered pattern through it, watches what comes out, and
says how much it holds. Nothing else imports it."""
