/* No port of a client towards a server is used twice. */
#include <criterion/criterion.h>

#include "client/inspectors/ftp/ports.h"

static struct endpoint at(const char *text)
{
	struct endpoint endpoint = {0};

	cr_assert(endpoint_parse(text, true, &endpoint));
	return endpoint;
}

Test(ports, never_twice)
{
	struct endpoint client = at("[fd77:1::2]:1025"), server = at("[fd77:2::2]:21"),
			other = at("[fd77:2::3]:21");
	struct port_use own = {0}, picked[3] = {{.used = false}}, elsewhere = {0}, again = {0};
	struct ports ports;

	ports_init(&ports);
	cr_assert(ports_take(&ports, &own, &client, &server));
	cr_expect_not(ports_take(&ports, &again, &client, &server));
	cr_expect(ports_take(&ports, &elsewhere, &client, &other));
	/* 1024 to 1026 without the client's own 1025. */
	cr_expect(ports_pick(&ports, &picked[0], &client, &server, 1024, 1026));
	cr_expect(ports_pick(&ports, &picked[1], &client, &server, 1024, 1026));
	cr_expect_neq(picked[0].client.port, 1025);
	cr_expect_neq(picked[1].client.port, 1025);
	cr_expect_neq(picked[0].client.port, picked[1].client.port);
	cr_expect_not(ports_pick(&ports, &picked[2], &client, &server, 1024, 1026));
	ports_give_back(&ports, &own);
	ports_give_back(&ports, &own);
	cr_expect(ports_pick(&ports, &picked[2], &client, &server, 1024, 1026));
	cr_expect_eq(picked[2].client.port, 1025);
	for (int i = 0; i < 3; i++)
		ports_give_back(&ports, &picked[i]);
	ports_give_back(&ports, &elsewhere);
	ports_fini(&ports);
}
