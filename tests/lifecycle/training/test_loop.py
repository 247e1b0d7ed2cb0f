"""Which batch a step reads when windows of batches were skipped. The loop itself is tested in workers/, on a model."""

import json

from lifecycle.training.loop import Course


def batches(course: Course, steps: int) -> list[int]:
    return [course.batch_of(step) for step in range(steps)]


def test_steps_behind_a_skipped_window_read_the_batches_behind_it():
    course = Course()
    course.skip(3, 5)
    assert batches(course, 6) == [0, 1, 2, 6, 7, 8]
    course.skip(4, 4)
    assert batches(course, 6) == [0, 1, 2, 6, 8, 9]
    assert course.skipped_batches == 4


def test_going_back_to_before_a_skipped_window_skips_each_batch_once():
    course = Course()
    course.skip(6, 8)
    course.skip(4, 7)  # reads 4, 5, 9, 10
    assert batches(course, 8) == [0, 1, 2, 3, 11, 12, 13, 14]
    assert course.skipped == [(4, 11)]
    assert course.skipped_batches == 7


def test_a_course_goes_on_as_it_was_saved():
    course, again = Course(), Course()
    course.skip(3, 5)
    course.findings["loss_spike"] += 1
    again.restore(json.loads(json.dumps(course.state())))
    assert (again.skipped, again.findings) == (course.skipped, course.findings)
