#include "common/buffer.h"

#include <criterion/criterion.h>
#include <string.h>

Test(buffer, cap_is_a_cap)
{
	struct buffer buffer;
	char bytes[101] = {0};

	buffer_init(&buffer, 100);
	cr_assert_not(buffer_append(&buffer, bytes, 101));
	cr_assert(buffer_append(&buffer, bytes, 60));
	cr_assert_not(buffer_append(&buffer, bytes, 41));
	cr_assert(buffer_append(&buffer, bytes, 40));
	cr_assert_null(buffer_reserve(&buffer, 1));
	cr_assert_null(buffer_reserve(&buffer, SIZE_MAX));
	buffer_consume(&buffer, 1);
	cr_assert_not_null(buffer_reserve(&buffer, 1));
	cr_assert_eq(buffer.length, 99);
	buffer_fini(&buffer);
}

Test(buffer, zero_initialised_holds_nothing)
{
	struct buffer buffer = {0};

	cr_assert_null(buffer_reserve(&buffer, 1));
	cr_assert_null(buffer_bytes(&buffer));
	buffer_shrink(&buffer);
	buffer_fini(&buffer);
}

/* What goes in comes out in order, whatever the pattern of appends and consumes. */
Test(buffer, is_a_queue_of_bytes)
{
	struct buffer buffer;
	uint8_t in = 0, out = 0, chunk[97];
	unsigned state = 12345;

	buffer_init(&buffer, 1 << 16);
	for (int round = 0; round < 20000; round++) {
		state = state * 1103515245 + 12345;
		size_t size = (state >> 16) % sizeof(chunk);

		for (size_t i = 0; i < size; i++)
			chunk[i] = in++;
		cr_assert(buffer_append(&buffer, chunk, size));
		size = (state >> 8) % 97 + (round % 7 == 0 ? 50 : 0);
		if (size > buffer.length)
			size = buffer.length;
		for (size_t i = 0; i < size; i++)
			cr_assert_eq(buffer_bytes(&buffer)[i], out++);
		buffer_consume(&buffer, size);
	}
	buffer_consume(&buffer, buffer.length);
	buffer_shrink(&buffer);
	cr_assert_eq(buffer.capacity, 0);
	cr_assert_eq(buffer.cap, 1 << 16);
	buffer_fini(&buffer);
}

Test(buffer, reserve_then_commit)
{
	struct buffer buffer;
	uint8_t *place;

	buffer_init(&buffer, 1000);
	place = buffer_reserve(&buffer, 10);
	cr_assert_not_null(place);
	memcpy(place, "hello", 5);
	buffer_commit(&buffer, 5);
	cr_assert_eq(buffer.length, 5);
	cr_assert_eq(memcmp(buffer_bytes(&buffer), "hello", 5), 0);
	buffer_fini(&buffer);
}
