"""What ``harness.report`` is made of: the numbers of each arm, the verdict, the table, the Markdown."""
