"""Messages that the lab counts as lost during a run: a later message of the same device overtook them."""

from tests.harness.lab.score import overtaken


def ids(*numbers: int, device: str = "d01") -> set[str]:
    return {f"{device}-{number}" for number in numbers}


def test_what_is_last_is_on_its_way() -> None:
    assert overtaken(ids(*range(1, 10)), ids(7, 8, 9)) == set()


def test_a_gap_is_overtaken_however_long_it_is() -> None:
    assert overtaken(ids(*range(1, 200)), ids(*range(50, 150), 199)) == ids(*range(50, 150))


def test_numbers_that_were_given_up_are_no_end_of_the_search() -> None:
    assert overtaken(ids(1, 2, 23), ids(2)) == ids(2)


def test_devices_do_not_overtake_each_other() -> None:
    assert overtaken(ids(1, 2) | ids(1, 2, device="d02"), ids(2) | ids(1, device="d02")) == ids(
        1, device="d02"
    )
