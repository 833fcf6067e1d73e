"""What D³ knows of the generative code it is attached to."""
