/* Questions to a policy document: why, its own tests, and what it would have decided. Handlers of
 * the service Revisions. */
#ifndef POSTERN_SERVER_SERVICE_POLICY_QUESTIONS_H
#define POSTERN_SERVER_SERVICE_POLICY_QUESTIONS_H

#include "server/policy/policy.h"
#include "server/service/service.h"

void handle_explain(Postern__V1__Revisions_Service *service,
	const Postern__V1__ExplainRequest *input, Postern__V1__ExplainItem_Closure closure,
	void *data);
void handle_test(Postern__V1__Revisions_Service *service,
	const Postern__V1__PolicyTestRequest *input, Postern__V1__PolicyTestResult_Closure closure,
	void *data);
void handle_replay(Postern__V1__Revisions_Service *service, const Postern__V1__ReplayRequest *input,
	Postern__V1__ReplayItem_Closure closure, void *data);

/* policy_questions.c: what the three share. */
void verdict_to_wire(const struct policy *policy, const struct policy_answer *answer,
	Postern__V1__Verdict *message);

#endif
