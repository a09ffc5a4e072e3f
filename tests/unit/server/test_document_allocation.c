/* Each allocation of document_unpack() fails once: an answer, no leak (AddressSanitizer), and the
 * answer is that memory is out, not that the document is wrong. Linked with --wrap. */
#include "postern/v1/document.pb-c.h"
#include "server/document/document.h"
#include "tests/unit/failing_allocator.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

static uint8_t *packed;
static size_t packed_size;

static void make(void)
{
	static char *addresses[] = {"10.0.0.0/8", "fd77::/32", "10.1.0.0-10.1.0.9"};
	static char *sets[] = {"inner"}, *names[] = {"a.example", "b.example"}, *ports[] = {"21"};
	static char *weekly[] = {"mon-fri 08:00-18:00"}, *dates[] = {"2026-01-01.."};
	Postern__V1__ProtocolDefinition ftp = POSTERN__V1__PROTOCOL_DEFINITION__INIT;
	Postern__V1__AddressSet outer = POSTERN__V1__ADDRESS_SET__INIT, inner = outer;
	Postern__V1__Schedule hours = POSTERN__V1__SCHEDULE__INIT;
	Postern__V1__SiteAndContentRule site = POSTERN__V1__SITE_AND_CONTENT_RULE__INIT;
	Postern__V1__PolicyDocument doc = POSTERN__V1__POLICY_DOCUMENT__INIT;
	ftp.name = "ftp";
	ftp.secondary_ports = site.ports = ports;
	ftp.n_secondary_ports = site.n_ports = 1;
	ftp.secondary_addresses = outer.addresses = addresses;
	ftp.n_secondary_addresses = outer.n_addresses = 3;
	outer.name = "outer";
	inner.name = "inner";
	outer.sets = site.clients = sets;
	outer.n_sets = site.n_clients = 1;
	inner.names = names;
	inner.n_names = 2;
	hours.name = site.schedule = "hours";
	hours.time_zone = "Europe/Berlin";
	hours.weekly = weekly;
	hours.dates = dates;
	hours.n_weekly = hours.n_dates = 1;
	site.name = "sites";
	site.action = POSTERN__V1__ACTION__ACTION_ALLOW;
	site.destinations = addresses;
	site.n_destinations = 3;
	doc.protocols = (Postern__V1__ProtocolDefinition *[]){&ftp};
	doc.client_sets = doc.destination_sets = (Postern__V1__AddressSet *[]){&outer, &inner};
	doc.schedules = (Postern__V1__Schedule *[]){&hours};
	doc.site_and_content_rules = (Postern__V1__SiteAndContentRule *[]){&site};
	doc.n_protocols = doc.n_schedules = doc.n_site_and_content_rules = 1;
	doc.n_client_sets = doc.n_destination_sets = 2;
	packed_size = postern__v1__policy_document__get_packed_size(&doc);
	packed = malloc(packed_size);
	(void)postern__v1__policy_document__pack(&doc, packed);
}

static bool unpack(void)
{
	struct document *document = NULL;
	struct error err = {0};
	enum status status = document_unpack(packed, packed_size, &document, &err);
	cr_assert(status == STATUS_OK || status == STATUS_RESOURCE_EXHAUSTED, "%s", err.text);
	cr_assert_eq(status == STATUS_OK, document != NULL);
	document_free(document);
	return status == STATUS_OK;
}

Test(document_allocation, each_failure_is_told, .init = make)
{
	cr_expect_gt(survive_each(unpack), 20);
	free(packed);
}
