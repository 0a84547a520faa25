/** What the OpenAPI document says of itself. */
export const about = {
  title: "FHIR",
  description: `HL7 FHIR R4 (4.0.1), as JSON: what other health software speaks. It shows the records of the other services, and writes
patients. Every operation but the descriptions of the server needs an access token; the services behind it decide what its bearer may
see and do. Every error is an OperationOutcome. What FHIR specifies is not repeated here: http://hl7.org/fhir/R4/http.html.`,
};
