"""The front: HTTP in, commands out, answers back. It never touches a table and never imports an agent."""
