/* UUIDv7: 48 bits of milliseconds, version, a 12-bit counter (RFC 9562, method 1), variant, 62
 * random bits. The counter starts at a random number below 2048 each millisecond; when it overflows
 * or the clock steps back, the millisecond is carried forward instead, so that ids never decrease
 * within the process. */
#include "common/id.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_ms;
static unsigned last_counter;

static void fill_random(uint8_t *bytes, size_t size)
{
	ssize_t got;

	do {
		got = getrandom(bytes, size, 0);
	} while (got < 0 && errno == EINTR);
	assert(got == (ssize_t)size); /* up to 256 bytes are never short */
}

struct id id_new(void)
{
	uint64_t ms = (uint64_t)clock_real_us() / 1000;
	struct id id = {0};
	unsigned counter;

	fill_random(id.bytes, sizeof(id.bytes));
	counter = ((unsigned)id.bytes[6] << 8 | id.bytes[7]) & 0x7ff;

	pthread_mutex_lock(&lock);
	if (ms <= last_ms) {
		ms = last_ms;
		counter = last_counter + 1;
		if (counter > 0xfff) {
			ms++;
			counter = 0;
		}
	}
	last_ms = ms;
	last_counter = counter;
	pthread_mutex_unlock(&lock);

	for (int i = 0; i < 6; i++)
		id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
	id.bytes[6] = (uint8_t)(0x70 | counter >> 8);
	id.bytes[7] = (uint8_t)counter;
	id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
	return id;
}

struct id id_derive(const struct id *whole, uint8_t index)
{
	uint8_t input[sizeof(whole->bytes) + 1];
	struct id id;

	memcpy(input, whole->bytes, sizeof(whole->bytes));
	input[sizeof(whole->bytes)] = index;
	crypto_generichash(id.bytes, sizeof(id.bytes), input, sizeof(input), NULL, 0);
	id.bytes[6] = (uint8_t)(0x80 | (id.bytes[6] & 0x0f));
	id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
	return id;
}

static bool has_dash_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void id_format(const struct id *id, char text[static ID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *at = text;

	for (size_t i = 0; i < sizeof(id->bytes); i++) {
		if (has_dash_before(i))
			*at++ = '-';
		*at++ = digits[id->bytes[i] >> 4];
		*at++ = digits[id->bytes[i] & 15];
	}
	*at = '\0';
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool id_parse(const char *text, struct id *ret_id)
{
	struct id id;
	int high, low;

	for (size_t i = 0; i < sizeof(id.bytes); i++) {
		if (has_dash_before(i) && *text++ != '-')
			return false;
		high = digit_value(text[0]);
		if (high < 0)
			return false;
		low = digit_value(text[1]);
		if (low < 0)
			return false;
		id.bytes[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text != '\0')
		return false;
	*ret_id = id;
	return true;
}

bool id_equal(const struct id *a, const struct id *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool id_is_zero(const struct id *id)
{
	static const struct id zero;

	return id_equal(id, &zero);
}
