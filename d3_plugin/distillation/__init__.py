"""Settings, teacher and student, the terms of a step, the student's update."""
