import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.PreconditionFailedException;
import ca.uhn.fhir.rest.server.exceptions.ResourceGoneException;
import ca.uhn.fhir.rest.server.exceptions.UnprocessableEntityException;
import ca.uhn.fhir.util.BundleUtil;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Stream;
import org.hl7.fhir.instance.model.api.IIdType;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Bundle.HTTPVerb;
import org.hl7.fhir.r4.model.CapabilityStatement;
import org.hl7.fhir.r4.model.ContactPoint.ContactPointSystem;
import org.hl7.fhir.r4.model.Enumerations.AdministrativeGender;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;

/** HAPI's generic client, with the check of the server that it makes by default, does what programs do with patients. */
final class Client {
  private static final String SYSTEM = "urn:oid:1.2.36.146.595.217";

  private final IGenericClient client;
  private final String family = "Hapi" + UUID.randomUUID().toString().substring(0, 8);
  private final List<Map<String, String>> steps = new ArrayList<>();
  private IIdType id;

  Client(FhirContext context, String[] baseAndToken) {
    client = context.newRestfulGenericClient(baseAndToken[0]);
    client.registerInterceptor(new BearerTokenAuthInterceptor(baseAndToken[1]));
  }

  private interface Act {
    void run() throws Exception;
  }

  private void step(String name, Act act) {
    try {
      act.run();
      steps.add(Map.of("step", name, "problem", ""));
    } catch (Throwable error) {
      error.printStackTrace();
      String answer = error instanceof BaseServerResponseException refusal ? " " + refusal.getResponseBody() : "";
      steps.add(Map.of("step", name, "problem", error + answer));
    }
  }

  /** A step that only a server which names it in its CapabilityStatement can take. */
  private void stepIfOffered(String name, Act act) {
    var rest = client.capabilities().ofType(CapabilityStatement.class).execute().getRestFirstRep();
    Stream<String> interactions = rest.getInteraction().stream().map(one -> one.getCode().toCode());
    Stream<String> operations = rest.getResource().stream().flatMap(one -> one.getOperation().stream()).map(one -> "$" + one.getName().replace("$", ""));
    if (Stream.concat(interactions, operations).anyMatch(name::equals)) step(name, act);
  }

  private static void expect(Object wanted, Object found) {
    if (!wanted.equals(found)) throw new AssertionError("expected " + wanted + ", found " + found);
  }

  private static void refuses(Class<? extends Exception> wanted, Act act) throws Exception {
    try {
      act.run();
    } catch (Exception error) {
      if (wanted.isInstance(error)) return;
      throw error;
    }
    throw new AssertionError("expected " + wanted.getSimpleName());
  }

  private Patient patient(String given) {
    Patient patient = new Patient();
    patient.addName().setFamily(family).addGiven(given);
    patient.addIdentifier().setSystem(SYSTEM).setValue(family + "-" + given);
    patient.setGender(AdministrativeGender.FEMALE).getBirthDateElement().setValueAsString("1985-12-10");
    patient.addTelecom().setSystem(ContactPointSystem.EMAIL).setValue(given + "@" + family + ".example");
    patient.addAddress().addLine("12 St James Square").setCity("London");
    return patient;
  }

  private Patient read() {
    return client.read().resource(Patient.class).withId(id.getIdPart()).execute();
  }

  private Bundle found() {
    return client.search().forResource(Patient.class).where(Patient.FAMILY.matches().value(family)).count(2).returnBundle(Bundle.class).execute();
  }

  List<Map<String, String>> steps() {
    step("create", () -> {
      MethodOutcome outcome = client.create().resource(patient("Ada")).execute();
      expect(true, outcome.getCreated());
      id = outcome.getId();
      expect("1", id.getVersionIdPart());
    });
    step("create of what cannot be stored", () -> refuses(UnprocessableEntityException.class, () -> client.create().resource(new Patient()).execute()));
    step("read", () -> expect(family, read().getNameFirstRep().getFamily()));
    step("search", () -> expect(id.getIdPart(), found().getEntryFirstRep().getResource().getIdElement().getIdPart()));
    step("paging", this::page);
    step("update", this::update);
    step("vread", () -> expect("Ada", client.read().resource(Patient.class).withIdAndVersion(id.getIdPart(), "1").execute().getNameFirstRep().getGivenAsSingleString()));
    step("history of an instance", () -> {
      Bundle history = client.history().onInstance(new IdType("Patient", id.getIdPart())).returnBundle(Bundle.class).execute();
      expect(List.of("2", "1"), history.getEntry().stream().map(entry -> entry.getResource().getIdElement().getVersionIdPart()).toList());
    });
    step("history of the type", () -> {
      Bundle history = client.history().onType(Patient.class).returnBundle(Bundle.class).count(5).execute();
      expect(5, history.getEntry().size());
    });
    step("conditional create", () -> {
      var create = client.create().resource(patient("Ada")).conditional();
      expect(id.getIdPart(), create.where(Patient.IDENTIFIER.exactly().systemAndIdentifier(SYSTEM, family + "-Ada")).execute().getId().getIdPart());
    });
    step("conditional update", () -> {
      var update = client.update().resource(patient("Ada")).conditional();
      expect(id.getIdPart(), update.where(Patient.IDENTIFIER.exactly().systemAndIdentifier(SYSTEM, family + "-Ada")).execute().getId().getIdPart());
    });
    step("patch", () -> {
      String patch = "[{\"op\":\"replace\",\"path\":\"/birthDate\",\"value\":\"1985-12-11\"}]";
      client.patch().withBody(patch).withId("Patient/" + id.getIdPart()).execute();
      expect("1985-12-11", read().getBirthDateElement().getValueAsString());
    });
    stepIfOffered("transaction", this::transact);
    stepIfOffered("$match", () -> {
      Parameters input = new Parameters();
      input.addParameter().setName("resource").setResource(patient("Ada"));
      Bundle matches = client.operation().onType(Patient.class).named("$match").withParameters(input).returnResourceType(Bundle.class).execute();
      expect(true, matches.getEntry().stream().anyMatch(entry -> entry.getResource().getIdElement().getIdPart().equals(id.getIdPart())));
    });
    stepIfOffered("$everything", () -> {
      var operation = client.operation().onInstance(new IdType("Patient", id.getIdPart())).named("$everything").withNoParameters(Parameters.class);
      Bundle everything = operation.useHttpGet().returnResourceType(Bundle.class).execute();
      expect(id.getIdPart(), everything.getEntryFirstRep().getResource().getIdElement().getIdPart());
    });
    step("delete", () -> {
      client.delete().resourceById("Patient", id.getIdPart()).execute();
      refuses(ResourceGoneException.class, this::read);
    });
    return steps;
  }

  private void page() {
    Set<String> all = new HashSet<>();
    for (String given : List.of("Grace", "Hedy", "Mary", "Lise")) client.create().resource(patient(given)).execute();
    Bundle page = found();
    while (true) {
      expect(true, page.getEntry().size() <= 2);
      for (Patient one : BundleUtil.toListOfResourcesOfType(client.getFhirContext(), page, Patient.class)) all.add(one.getNameFirstRep().getGivenAsSingleString());
      if (page.getLink(Bundle.LINK_NEXT) == null) break;
      page = client.loadPage().next(page).execute();
    }
    expect(Set.of("Ada", "Grace", "Hedy", "Mary", "Lise"), all);
  }

  private void update() throws Exception {
    Patient first = read();
    Patient second = first.copy();
    second.getNameFirstRep().addGiven("Augusta");
    // The client sends the version of the resource as If-Match.
    MethodOutcome outcome = client.update().resource(second).withId(first.getIdElement()).execute();
    expect("2", outcome.getId().getVersionIdPart());
    expect("Ada Augusta", read().getNameFirstRep().getGivenAsSingleString());
    first.getNameFirstRep().addGiven("Late");
    refuses(PreconditionFailedException.class, () -> client.update().resource(first).withId(first.getIdElement()).execute());
  }

  private void transact() throws Exception {
    Bundle bundle = new Bundle().setType(Bundle.BundleType.TRANSACTION);
    for (String given : List.of("Rosalind", "Dorothy")) {
      var entry = bundle.addEntry().setFullUrl("urn:uuid:" + UUID.randomUUID()).setResource(patient(given));
      entry.getRequest().setMethod(HTTPVerb.POST).setUrl("Patient");
    }
    Bundle answer = client.transaction().withBundle(bundle).execute();
    for (var entry : answer.getEntry()) expect(true, entry.getResponse().getStatus().startsWith("201"));
    expect(2, answer.getEntry().size());
    // One wrong entry, and nothing happens.
    bundle.addEntry().setResource(new Patient()).getRequest().setMethod(HTTPVerb.POST).setUrl("Patient");
    bundle.getEntryFirstRep().setResource(patient("Nobody"));
    refuses(UnprocessableEntityException.class, () -> client.transaction().withBundle(bundle).execute());
    var nobody = client.search().forResource(Patient.class).where(Patient.FAMILY.matches().value(family)).and(Patient.GIVEN.matches().value("Nobody"));
    expect(0, nobody.returnBundle(Bundle.class).execute().getEntry().size());
  }
}
