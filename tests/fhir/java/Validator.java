import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.ValidationOptions;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/** Validates by the specification, and patients by US Core too. It asks no server for anything. */
final class Validator {
  private static final String PATIENT = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient";

  private final FhirValidator validator;

  /** @param files JSON lists of profiles */
  Validator(FhirContext context, String[] files) throws Exception {
    PrePopulatedValidationSupport profiles = new PrePopulatedValidationSupport(context);
    for (String file : files)
      for (JsonNode profile : new ObjectMapper().readTree(Path.of(file).toFile()))
        profiles.addResource(context.newJsonParser().parseResource(profile.toString()));
    FhirInstanceValidator module =
        new FhirInstanceValidator(
            new ValidationSupportChain(
                new DefaultProfileValidationSupport(context),
                profiles,
                new CommonCodeSystemsTerminologyService(context),
                new InMemoryTerminologyServerValidationSupport(context),
                new SnapshotGeneratingValidationSupport(context)));
    validator = context.newValidator().registerValidatorModule(module);
  }

  List<Map<String, String>> errorsOf(String json) {
    ValidationOptions options = new ValidationOptions();
    if (json.startsWith("{\"resourceType\":\"Patient\"")) options.addProfile(PATIENT);
    return validator.validateWithResult(json, options).getMessages().stream()
        .filter(message -> message.getSeverity().compareTo(ResultSeverityEnum.ERROR) >= 0)
        .map(message -> Map.of("where", String.valueOf(message.getLocationString()), "message", message.getMessage()))
        .toList();
  }
}
