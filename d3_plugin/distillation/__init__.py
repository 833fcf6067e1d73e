"""What D³ computes: settings, teacher and student, the terms of a step, the student's update."""
