from jtln_tf.config import InputError, MissingInputError


def test_a_missing_file_is_an_input_error_with_its_own_message():
    error = MissingInputError("`x` must exist.")
    assert isinstance(error, InputError) and isinstance(error, FileNotFoundError)
    assert str(error) == "`x` must exist." and str(MissingInputError()) == ""
